"""The music shop as a web application: an async engine, repositories, response models. See the README.md above.

Only load.py knows of Locust; the application is measured as it is.
"""
