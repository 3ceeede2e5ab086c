"""The demo: its processes, and the world in its database."""
