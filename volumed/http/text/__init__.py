"""Pure syntax of HTTP and of what the reference writes into it: names, types, ranges, dates, forms of paths."""
