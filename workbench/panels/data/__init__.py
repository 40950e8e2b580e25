"""The panel that says what a source of data holds before anything long is started with it."""
