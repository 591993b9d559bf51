"""A Django project in one file: a page, a form that stores an upload among the media, the address of the client."""

import os

import django
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="an example's",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MEDIA_ROOT=os.path.join(os.path.dirname(os.path.abspath(__file__)), "media"),
    USE_X_FORWARDED_HOST=True,
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
)
django.setup()


def page(request):
    return JsonResponse({
        "url": request.build_absolute_uri(),
        "client": request.headers["X-Real-IP"],
        "request_id": len(request.headers["X-Request-ID"]),
        "secure": request.is_secure(),
    })


def upload(request):
    file = request.FILES["file"]
    return HttpResponse(f"{default_storage.save(file.name, file)} {file.size}\n", status=201)


urlpatterns = [path("page", page), path("upload", upload)]
application = get_wsgi_application()
