"""The proxies that are compared, each as a command, a configuration and a version."""
