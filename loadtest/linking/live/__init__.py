"""Services that drop trace context, under load behind a sidecar: how right are its links?"""
