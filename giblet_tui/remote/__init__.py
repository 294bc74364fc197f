"""The only code that touches a network or a subprocess of a node: connections, and the agent that is sent over them."""
