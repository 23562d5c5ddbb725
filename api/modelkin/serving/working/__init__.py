"""What a page works out and keeps: threads with the registry open, questions, models to browse, answers by digest."""
