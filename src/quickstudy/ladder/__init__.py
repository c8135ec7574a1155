"""Which method is good enough on one's own classes, and what accuracy to expect."""
