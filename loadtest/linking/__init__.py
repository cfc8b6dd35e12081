"""Measures linking against recorded and live services: which request caused this call?"""
