"""The HTTP API by resource: its functions, with the models of their requests and answers."""
