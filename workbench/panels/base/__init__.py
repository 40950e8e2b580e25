"""What every panel stands on: the widget, what keeps it live, its fields and its look."""
