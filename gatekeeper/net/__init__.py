"""The data plane's sockets: the loop's transports behind Twisted's interfaces."""
