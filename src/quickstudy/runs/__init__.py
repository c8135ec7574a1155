"""What a run leaves: its folder, how it goes on, loggers, results, the page."""
