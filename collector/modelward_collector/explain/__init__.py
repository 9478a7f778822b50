"""One detection, explained from hook to page in words that a newcomer understands.

In the order of the data: :mod:`gather` asks the store for what is known around a detection -> :mod:`sections` puts it into
words (:mod:`words`, :mod:`matched`) -> :mod:`document` is what the terminal, the page and the API render. Every text in it may
come from a host: whoever renders it escapes it.
"""
