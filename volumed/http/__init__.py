"""The HTTP fronts: pure decisions, the needle lane and its handlers, falcon and gunicorn around them."""
