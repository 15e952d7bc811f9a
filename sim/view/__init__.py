"""A run in a browser: the film that is made of it, its page, and the server of both."""
