"""An adapted model as a service: HTTP, a page, and changes that survive anything."""
