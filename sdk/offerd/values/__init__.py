"""Rules for values: bounds of numbers and texts, ranges, text that is safe to show, texts of errors. All else uses this."""
