"""The panel that submits jobs and watches them."""
