"""Connections to upstreams: strict readers of responses, and the pools that keep them."""
