"""Documents for typesetting: LaTeX, Typst, XML vocabularies such as DocBook, and manual pages."""
