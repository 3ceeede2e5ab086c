"""HTTP/1.1 as bytes: strict, and without sockets or clocks."""
