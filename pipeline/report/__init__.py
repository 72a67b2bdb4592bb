"""The report: one HTML file that shows what was run, what came out, and on which pictures."""
