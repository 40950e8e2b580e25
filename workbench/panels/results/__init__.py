"""Results of jobs, drawn by their views: alone and side by side."""
