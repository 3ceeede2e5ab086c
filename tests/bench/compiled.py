"""Imported first by the programs here: what of the gateway runs in them is compiled, if the gateway is.

Not by the package, which tests import from, too: in their process Python reads the sources.
"""

from proxy.dataplane import compiled

compiled.use()
