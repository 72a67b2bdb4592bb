"""Human evaluation: a blind pairwise sheet for raters, and what their answers say."""
