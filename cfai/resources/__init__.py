"""What a client offers beside runs. Its modules are loaded when they are first asked for."""
