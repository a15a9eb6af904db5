"""Where a host project stores its tables."""


class NotesElsewhere:
    """The host's notes are in the second database, everything else in the default one."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.model_name == "note" else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return (db == "other") == (model_name == "note")
