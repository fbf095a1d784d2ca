"""Cases: each a set of networks with its published figures and files."""
