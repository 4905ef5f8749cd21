"""What people look at: the page of the service, the report of a run, and the figures that both show."""
