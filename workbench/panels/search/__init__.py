"""The search panel, and the page that visitors see."""
