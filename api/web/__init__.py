"""Routes and static files of the web page, which needs no build.

May import `api.http.problems`, no other part of `api`.
"""
