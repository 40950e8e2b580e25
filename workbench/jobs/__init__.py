"""Jobs: submitting them, looking at them, and the workers that run them."""
