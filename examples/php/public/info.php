<?php
printf("%s by %s from %s\n", $_SERVER['SCRIPT_FILENAME'], $_SERVER['SERVER_SOFTWARE'], $_SERVER['REMOTE_ADDR']);
