"""The HTTP API: for each noun its functions, with the models of their questions and answers."""
