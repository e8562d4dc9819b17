"""The names under which Python configurations know the cloud scheduler."""
