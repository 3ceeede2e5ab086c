"""Benchmarks. What of the gateway runs in their own process is compiled if the gateway is."""

from proxy.dataplane import compiled

compiled.use()
