"""The book as a site.

`stage` gathers what it is made of, `pages` writes what is made from records, `build` runs Sphinx, `check` reads the
built pages as a browser would; `command` is `python -m ssconv_lib site`.
"""
