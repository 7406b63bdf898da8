"""`dbkit try`: one page by each class of a locustfile, without load, to see what it does and why it fails.

    locustfile  the classes of a locustfile, loaded as Locust does
    reading     a class is checked as before a run, and reads its page, or runs its tasks
    statements  what the page sends, and which line of the application sent it
    rollback    what a page writes is rolled back
    advice      what to do about the usual failures
    shown       all of it on the terminal

How pages are read under load is in `dbkit.load.users`; the command line is in `dbkit.cli.try_command`.
"""
