"""What values may be: bounds of numbers and texts, ranges, text that is safe to show. Everything else stands on this."""
