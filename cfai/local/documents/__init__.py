"""Documents as text: what is converted with which library, in a process of its own."""
