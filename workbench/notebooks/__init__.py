"""Job notebooks: find them, check their parameters, execute and save them."""
