"""The default collection: emoji in two drawing styles, named in English and Korean."""
