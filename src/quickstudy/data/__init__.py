"""What data exists, which episode is which, and how an example is read. Nothing here knows a domain."""
