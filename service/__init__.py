"""The same strategies behind HTTPS: an API, a worker that is the centre, sites that come to it, and a web page."""
