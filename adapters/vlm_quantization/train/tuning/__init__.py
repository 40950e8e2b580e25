"""Training the towers of an encoder together with the heads."""
