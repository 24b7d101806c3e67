"""Rules for values: bounds of numbers and texts, ranges, text that is safe to show. All other parts build on this."""
