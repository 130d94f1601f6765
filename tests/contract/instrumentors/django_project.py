"""Settings, URLs and views of a small Django project."""

SECRET_KEY = "not secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_project"
INSTALLED_APPS = ["django.contrib.contenttypes"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
LOGGING_CONFIG = None


def order(request, number):
    from django.http import HttpResponse

    return HttpResponse(str(number))


def broken(request):
    raise RuntimeError("broken")


def __getattr__(name):
    # Django reads the settings from this module before its URL machinery may be imported.
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path

    return [path("orders/<int:number>", order), path("broken", broken)]
