"""Jinja2 templates, from text and from a loader."""

from jinja2 import DictLoader, Environment, Template

print(Template("Hello {{ name }}").render(name="world"))
environment = Environment(loader=DictLoader({"page.html": "<p>{{ name }}</p>"}), autoescape=True)
print(environment.get_template("page.html").render(name="page"))
