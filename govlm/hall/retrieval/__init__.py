"""Finding items and passages: lexical, dense and by the fit of names, in one ranking."""
