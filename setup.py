from setuptools import setup

setup(
    # Where `python setup.py extract_messages` finds translatable strings.
    message_extractors={
        "ckanext": [
            ("**.py", "python", None),
            ("**.js", "javascript", None),
            ("**/templates/**.html", "ckan", None),
        ],
    },
)
