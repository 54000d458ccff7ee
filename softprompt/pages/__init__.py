"""Report pages: one file each, no network, light and dark, on a phone and printed.

page.py     fill a template
plots.py    matplotlib figures as inline SVG in the page's own colours
*.html.j2   the templates; base.html.j2 has the frame and the styles
"""
