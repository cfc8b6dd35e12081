"""Which request in flight caused this call? Evidence in, a decision out. No I/O, no clock."""
