"""How a slot talks to Claude: the protocol, and the sessions that speak it."""
