"""Pictures drawn of captions, and what is made of their features."""
